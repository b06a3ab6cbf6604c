"""Intake: what came in at a door is admitted or refused, and recorded.

``admission`` decides about messages (pure); the other modules are the jobs that change the log
(pure, over facts read beforehand); ``recorder`` is the loop that commits them in groups.
"""
