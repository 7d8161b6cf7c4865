package backend

import "github.com/mgmtproject/mgmt/sources/packages/dpkg"

// local looks into dpkg's database.
func local(dir string, names []string) ([]Status, error) {
	db, err := dpkg.Read(dir)
	if err != nil {
		return nil, err
	}
	all := make([]Status, len(names))
	for i, name := range names {
		switch p, ok := db.Package(name); {
		case !ok:
		case p.Usable():
			all[i].Version = p.Version
		case p.Broken():
			all[i].Broken = p.State
		}
	}
	return all, nil
}
