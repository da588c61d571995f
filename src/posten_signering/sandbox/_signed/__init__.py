"""Creates signed documents (PAdES, XAdES) and the certificates that sign them."""
