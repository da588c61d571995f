"""The values that a caller sends and receives. They are frozen, and independent of XML and HTTP."""
