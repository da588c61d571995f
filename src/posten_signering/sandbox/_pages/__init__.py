"""What a person sees: the signer's pages, the overview, the portal's exit pages. Decides nothing about jobs."""
