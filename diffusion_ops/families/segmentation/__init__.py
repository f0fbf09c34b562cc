"""Parts that operators of segmentation share: thresholds, phases, contours, and what is joined over the whole image."""
