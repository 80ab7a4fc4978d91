"""The whole system at once, for a person to try or playing the annotator itself."""
