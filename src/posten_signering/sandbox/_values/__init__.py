"""Values that every part of the sandbox uses: settings, the clock, URLs, refusals, masking, worker threads."""
