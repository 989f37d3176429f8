"""What a person looks at: pictures of images of any size, read from as few voxels as will do."""
