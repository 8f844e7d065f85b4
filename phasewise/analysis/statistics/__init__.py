"""What the metrics of a study say: tidy tables, intervals, tests, effects, importance, hypotheses.

Everything is a pure function over a `phasewise.study.results.StudyResult` or the tables made of
it. The methods are those of pandas, scipy, statsmodels and Optuna.
"""
