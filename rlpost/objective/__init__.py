"""Policy objectives: functions of log-probabilities and advantages that return an unreduced loss."""
