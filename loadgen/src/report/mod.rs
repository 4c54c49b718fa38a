//! What becomes of a result: a table, files, a page, a comparison.
