"""One file per format of data sets. Every module here is imported when formats are looked for."""
