"""A user's vouchers: what was claimed is dispatched."""
