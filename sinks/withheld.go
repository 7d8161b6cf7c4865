package sinks

// Withheld stands for a value that Reverse is not given, in the map of what the resource
// has found: it is secret, or too long to be kept. No Change has it as From.
const Withheld = "\x00withheld"
