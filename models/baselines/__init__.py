"""Closed-form and counting rankers behind the evaluator's seam: what a learned model must beat."""
