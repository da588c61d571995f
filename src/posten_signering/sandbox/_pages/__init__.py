"""The web pages: the signer's pages, the overview page, and the exit pages of the demo's portal."""
