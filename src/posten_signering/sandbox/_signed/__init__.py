"""What the sandbox signs: PAdES, XAdES, and the certificates to sign with."""
