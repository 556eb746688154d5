"""Pure arithmetic: intervals, pass@k, paired tests, power, selection, looking more than once. No I/O.

Read `docs/statistics.md` for which estimator stands where and why. Importing any module here loads neither numpy nor
scipy; a function that needs one imports it itself.
"""
