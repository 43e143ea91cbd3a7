"""Statistics that stay valid however often somebody looks: sequential tests and confidence sequences on running sums.

Each function takes counts or sums, never single observations, so that a look costs the same after a million requests.
Nothing here knows what a rollout is, except `budget`, which splits one error probability over all of it.
"""
