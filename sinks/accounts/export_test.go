package accounts

// Use reads other files in place of those of the host, until restore is called.
func Use(passwdFile, groupFile, nsswitchFile string) (restore func()) {
	p, g, n := passwd.file, group.file, nsswitch
	passwd.file, group.file, nsswitch = passwdFile, groupFile, nsswitchFile
	return func() { passwd.file, group.file, nsswitch = p, g, n }
}
