"""The audit: what a scorer really pays for, before an optimizer finds out.

Read in this order: cases (what is asked, and how an answer is read), families (the attacks), asking (how a scorer is
asked without trusting it), examination (the stages, in order), report (what comes out).
"""
