// Package nspawn manages a container of systemd: whether the machine of a name below
// /var/lib/machines runs.
package nspawn
