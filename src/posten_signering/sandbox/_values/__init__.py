"""Values that every part of the sandbox uses: settings, links, refusals, masking."""
