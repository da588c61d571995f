"""The control API: sees and changes the state of a sandbox from outside. Not part of the service it stands for."""
