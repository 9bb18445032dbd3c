"""Intake: find what is new in a location, read it back, judge it, and write all of that down at once.

`survey` finds, `reading` reads, `verdicts` judges what was read, `losses` what is gone; `tampering` tells whose doing a
change was, and `acceptance` ends what somebody says was theirs.
"""
