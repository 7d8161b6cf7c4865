package password

// Alphabet is what a password is made of.
const Alphabet = alphabet

// Generate makes a password.
var Generate = generate
