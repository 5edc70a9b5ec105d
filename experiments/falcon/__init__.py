"""FALCON: made-up files in its layout, calibration, and the run of its evaluator."""
