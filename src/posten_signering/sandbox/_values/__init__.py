"""Values that every part of the sandbox uses: settings, URLs, refusals, masking, worker threads."""
