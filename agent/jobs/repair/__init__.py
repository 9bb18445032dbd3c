"""Keep the locations equal: see what one of them lacks, and make it from another."""
