"""Documents: opens PDFs, makes pages of texts and joins them, in processes of their own."""
