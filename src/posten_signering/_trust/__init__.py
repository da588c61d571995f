"""The sender's certificate, the trust anchors, and the addresses of the service. Opens no connection itself."""
