"""What tests of Fairlead, and of projects built on it, need: fakes checked against the real thing by the same contract
tests, injected faults, and real small servers.
"""
