"""The archive files: `look` lists them, `read` reads them back, `write` writes them so that they last."""
