package sinktest

import "time"

// SetPatience shortens the time that a test waits for what will not happen.
func SetPatience(d time.Duration) { patience = d }
