"""Compiled arithmetic of single cells and their neighbours: noise, impulses, speckle, edges."""
