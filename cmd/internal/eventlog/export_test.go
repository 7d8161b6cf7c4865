package eventlog

// NewBounded is New with a small buffer.
var NewBounded = newLog
