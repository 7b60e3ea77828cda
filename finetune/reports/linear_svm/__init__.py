"""A linear SVM on TF-IDF beside every training of a classifier: as what it is measured by, and as a part of it."""
