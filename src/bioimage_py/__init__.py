"""Copy image volumes of any size, block by block, from any source into any chunked store."""
