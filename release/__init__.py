"""What is shipped, made from the tree: the manifests, the files of a release, the image."""
