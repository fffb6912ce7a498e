"""Prediction plans: the answers of a fitted estimator, without scikit-learn's cost for each call.

scikit-learn validates its input in every step of every call, which takes longer than one row needs.
The service has validated the row before. A plan computes the same from the fitted attributes with
numpy; where it cannot, or is not sure to, the estimator is asked.
"""
