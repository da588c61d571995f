"""The command `inspect`: what is in a file, and whether it is valid. Nothing in it uses the network."""
