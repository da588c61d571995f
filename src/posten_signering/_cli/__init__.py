"""The commands of `posten-signering`. They use only public names of the package."""
