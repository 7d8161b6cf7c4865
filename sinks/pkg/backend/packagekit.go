package backend

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/mgmtproject/mgmt/sources/packages/dpkg"
)

// kit manages packages through PackageKit, which knows the package manager of the host.
// It connects to the system bus for each operation and leaves again: the daemon ends by
// itself after some minutes in which nobody has asked for anything.
type kit struct{ Options }

var _ Backend = (*kit)(nil)

func newPackageKit(o Options) *kit { return &kit{o} }

// Name implements Backend.
func (k *kit) Name() string { return PackageKit }

// local reports whether dpkg's database answers in place of PackageKit.
func (k *kit) local() bool { return !k.NoDatabase && HasDpkg() }

// Look implements Backend.
func (k *kit) Look(ctx context.Context, names []string) ([]Status, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if k.local() {
		return local(dpkg.Dir, names)
	}
	b, err := dial(ctx, k.Options)
	if err != nil {
		return nil, err
	}
	defer b.close()
	found, err := b.resolve(ctx, filterInstalled, names)
	if err != nil {
		return nil, err
	}
	all := make([]Status, len(names))
	for i, name := range names {
		if id, ok := pick(found, name, installed); ok {
			all[i].Version = id.version
		}
	}
	return all, nil
}

// Newest implements Backend.
func (k *kit) Newest(ctx context.Context, names []string) ([]string, error) {
	if k.local() && hasApt() {
		return newApt(k.Options).Newest(ctx, names)
	}
	b, err := dial(ctx, k.Options)
	if err != nil {
		return nil, err
	}
	defer b.close()
	found, err := b.resolve(ctx, filterNewest|filterArch, names)
	if err != nil {
		return nil, err
	}
	versions := make([]string, len(names))
	for i, name := range names {
		id, ok := pick(found, name, func(id packageID) bool { return !installed(id) })
		if !ok {
			id, _ = pick(found, name, installed)
		}
		versions[i] = id.version
	}
	return versions, nil
}

// Prepare implements Backend.
func (k *kit) Prepare(ctx context.Context, actions []Action, allow Allow) []error {
	errs := make([]error, len(actions))
	b, err := dial(ctx, k.Options)
	if err == nil {
		defer b.close()
		_, err = b.identify(ctx, actions, allow, errs)
	}
	if err != nil {
		for i := range errs {
			errs[i] = err
		}
	}
	return errs
}

// Apply implements Backend. PackageKit has a transaction for removals, one for what is
// new, and one for what is there in another version.
func (k *kit) Apply(ctx context.Context, actions []Action, allow Allow) error {
	release, err := k.Shared.take(ctx)
	if err != nil {
		return err
	}
	defer release()
	b, err := dial(ctx, k.Options)
	if err != nil {
		return err
	}
	defer b.close()
	b.busy = true
	errs := make([]error, len(actions))
	ids, err := b.identify(ctx, actions, allow, errs)
	if err != nil {
		return err
	}
	var flags uint64
	if !allow.Untrusted {
		flags |= flagOnlyTrusted
	}
	if allow.Downgrade {
		flags |= flagAllowDowngrade
	}
	var remove, install, update []string
	for i, act := range actions {
		switch {
		case errs[i] != nil:
			return errs[i]
		case ids[i] == "":
		case act.Remove:
			remove = append(remove, ids[i])
		case act.Now.Version != "" && !allow.Downgrade:
			update = append(update, ids[i])
		default:
			install = append(install, ids[i])
		}
	}
	if len(remove) > 0 {
		err = b.change(ctx, "RemovePackages", flags&^flagOnlyTrusted, remove, true, false)
	}
	if len(install) > 0 && err == nil {
		err = b.install(ctx, "InstallPackages", flags, install)
	}
	if len(update) > 0 && err == nil {
		err = b.install(ctx, "UpdatePackages", flags, update)
	}
	return err
}

// install installs packages if nothing has to go for that. PackageKit would remove what is
// in the way, so it is asked first.
func (b *bus) install(ctx context.Context, method string, flags uint64, ids []string) error {
	if err := b.free(ctx); err != nil {
		return err
	}
	var gone []string
	err := b.transaction(ctx, method, func(s *dbus.Signal) {
		info, _ := argument[uint32](s, 0)
		text, _ := argument[string](s, 1)
		if id, ok := parseID(text); ok && s.Name == kitTransaction+".Package" && info == infoRemoving {
			gone = append(gone, id.name)
		}
	}, flags|flagSimulate, ids)
	switch {
	case len(gone) > 0:
		return inTheWay(gone)
	case err != nil && ctx.Err() != nil:
		return err
	}
	return b.change(ctx, method, flags, ids) // which may fail for the same reason, and say so
}

var _ Forgetter = (*kit)(nil)

// aptCache holds what is installed beside what is offered. Apt, which PackageKit uses, takes
// it for right if dpkg's status file has the same size and was changed in the same second:
// that is so when we repair what somebody has done right after we had changed something.
const aptCache = "/var/cache/apt/pkgcache.bin"

// Forget implements Forgetter.
func (k *kit) Forget() error { return os.Remove(aptCache) }

// identify finds the packages that actions are about, and for those that can't be done
// an error in errs. A package that is to be removed and isn't there has no ID.
func (b *bus) identify(ctx context.Context, actions []Action, allow Allow, errs []error) ([]string, error) {
	ids := make([]string, len(actions))
	var gone, wanted []string
	for _, act := range actions {
		if act.Remove {
			gone = append(gone, act.Name)
		} else {
			wanted = append(wanted, act.Name)
		}
	}
	if len(gone) > 0 {
		found, err := b.resolve(ctx, filterInstalled, gone)
		if err != nil {
			return nil, err
		}
		for i, act := range actions {
			if id, ok := pick(found, act.Name, installed); ok && act.Remove {
				ids[i] = id.String()
			}
		}
	}
	if len(wanted) == 0 {
		return ids, nil
	}
	found, err := b.offers(ctx, actions, wanted)
	if err != nil {
		return nil, err
	}
	filters := filterArch
	if !allow.NonFree {
		filters |= filterFree
	}
	if !allow.Unsupported {
		filters |= filterSupported
	}
	permitted := found
	if filters != filterArch {
		if permitted, err = b.resolve(ctx, filters, wanted); err != nil {
			return nil, err
		}
	}
	for i, act := range actions {
		if act.Remove {
			continue
		}
		id, ok := choose(found, act)
		switch {
		case !ok && act.Version != "":
			id, err := b.exactly(ctx, found, act)
			if ids[i], errs[i] = id, err; err != nil && ctx.Err() != nil {
				return nil, err
			}
		case !ok:
			errs[i] = errors.New("PackageKit knows of no such package: check the name, and which archives are in use")
		case !slices.ContainsFunc(permitted, func(other packageID) bool { return other.name == id.name && other.arch == id.arch }):
			errs[i] = errors.New("PackageKit takes it for not free, or for not supported by the distribution: set allownonfree or allowunsupported to install it")
		default:
			ids[i] = id.String()
		}
		if errs[i] == nil {
			errs[i] = notOlder(ctx, act, ids[i], allow)
		}
	}
	return ids, nil
}

// notOlder refuses a downgrade that is not allowed. Where there is dpkg, PackageKit does
// not ask; elsewhere it does.
func notOlder(ctx context.Context, act Action, text string, allow Allow) error {
	id, ok := parseID(text)
	if !ok || act.Now.Version == "" || allow.Downgrade || !HasDpkg() {
		return nil
	}
	return newer(ctx, act.Now.Version, id.version)
}

// offers resolves names, and refreshes what PackageKit knows if one is not found.
func (b *bus) offers(ctx context.Context, actions []Action, names []string) ([]packageID, error) {
	asked := time.Now()
	found, err := b.resolve(ctx, filterArch, names)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(actions, func(act Action) bool {
		_, ok := pick(found, act.Name, func(packageID) bool { return true })
		return !act.Remove && !ok
	})
	if i < 0 || b.busy {
		return found, nil
	}
	again, err := b.Shared.refresh(ctx, asked, func() error { return b.update(ctx, actions[i].Name) })
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		b.Log.Warn("can't refresh the lists of packages", "err", err)
	}
	if !again {
		return found, nil
	}
	return b.resolve(ctx, filterArch, names)
}

// update refreshes the lists of packages. PackageKit refuses to where there is no default
// route, even if no archive needs one; apt does not mind.
func (b *bus) update(ctx context.Context, wanted string) error {
	b.Log.Info("refreshing the lists of packages by PackageKit", "for", wanted)
	err := b.transaction(ctx, "RefreshCache", nil, false)
	if e, ok := errors.AsType[*kitError](err); ok && e.code == errorNoNetwork && hasApt() && os.Geteuid() == 0 {
		return newApt(b.Options).update(ctx, wanted)
	}
	return err
}

// choose returns what has to be installed.
func choose(found []packageID, act Action) (packageID, bool) {
	if act.Version != "" {
		return pick(found, act.Name, func(id packageID) bool { return id.version == act.Version && !installed(id) })
	}
	return pick(found, act.Name, func(id packageID) bool { return !installed(id) })
}

// exactly finds a version that is not the one that PackageKit prefers.
func (b *bus) exactly(ctx context.Context, found []packageID, act Action) (string, error) {
	id, ok := pick(found, act.Name, func(packageID) bool { return true })
	if !ok {
		return "", errors.New("PackageKit knows of no such package: check the name, and which archives are in use")
	}
	preferred := id.version
	id.version, id.data = act.Version, ""
	ids, err := b.resolve(ctx, filterNone, []string{id.String()})
	if err != nil {
		if _, ok := errors.AsType[*kitError](err); !ok {
			return "", err
		}
	}
	if exact, ok := pick(ids, act.Name, func(id packageID) bool { return id.version == act.Version }); ok {
		return exact.String(), nil
	}
	return "", fmt.Errorf("PackageKit knows of no version %s; it has %s", act.Version, preferred)
}

// packageID is how PackageKit names a package in one version: "name;version;arch;data".
type packageID struct {
	name, version, arch, data string

	there bool // it is installed
}

// String is the ID as PackageKit has it.
func (id packageID) String() string {
	return strings.Join([]string{id.name, id.version, id.arch, id.data}, ";")
}

func parseID(s string) (packageID, bool) {
	f := strings.Split(s, ";")
	if len(f) != 4 {
		return packageID{}, false
	}
	return packageID{name: f[0], version: f[1], arch: f[2], data: f[3]}, true
}

func installed(id packageID) bool { return id.there }

// pick returns the first package of a name that fits.
func pick(all []packageID, name string, fits func(packageID) bool) (packageID, bool) {
	name, arch, given := strings.Cut(name, ":")
	for _, id := range all {
		if id.name == name && (!given || id.arch == arch || id.arch == "all") && fits(id) {
			return id, true
		}
	}
	return packageID{}, false
}

// Bits of PackageKit's filters and transaction flags: 1 << the number of its enumeration.
const (
	filterNone      uint64 = 1 << 1
	filterInstalled uint64 = 1 << 2
	filterFree      uint64 = 1 << 8
	filterSupported uint64 = 1 << 12
	filterNewest    uint64 = 1 << 16
	filterArch      uint64 = 1 << 18

	flagOnlyTrusted    uint64 = 1 << 1
	flagSimulate       uint64 = 1 << 2
	flagAllowDowngrade uint64 = 1 << 6
)

// Of PackageKit's enumerations.
const (
	exitSuccess        = 1
	infoInstalled      = 1
	infoDownloading    = 10
	infoRemoving       = 13
	errorNoNetwork     = 2
	errorCannotGetLock = 26
)

// infos are the values of PkInfoEnum that tell of work.
var infos = map[uint32]string{infoDownloading: "Downloading", 11: "Updating", 12: "Installing", infoRemoving: "Removing", 14: "Cleaning up", 20: "Preparing", 21: "Unpacking"}

// kitError is an error that PackageKit has reported.
type kitError struct {
	code    uint32
	details string
}

// Error is what PackageKit said.
func (e *kitError) Error() string {
	return "PackageKit: " + strings.Join(strings.FieldsFunc(e.details, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}

const (
	kitName        = "org.freedesktop.PackageKit"
	kitPath        = "/org/freedesktop/PackageKit"
	kitTransaction = "org.freedesktop.PackageKit.Transaction"
)

// findPackageKit reports whether the system bus has PackageKit or can start it. It does
// start it; the error says why PackageKit can't be used.
func findPackageKit(ctx context.Context) (there bool, err error) {
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return false, fmt.Errorf("there is no system bus: %w", err)
	}
	defer func() { _ = conn.Close() }()
	err = conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.StartServiceByName", 0, kitName, uint32(0)).Err
	if e, ok := errors.AsType[dbus.Error](err); ok && e.Name == "org.freedesktop.DBus.Error.ServiceUnknown" {
		return false, errors.New("the system bus has no PackageKit")
	}
	if err != nil {
		return true, fmt.Errorf("PackageKit can't be started: %w: see journalctl --unit packagekit", err)
	}
	return true, nil
}

// bus is a connection to the system bus with which PackageKit is used.
type bus struct {
	Options
	conn    *dbus.Conn
	signals chan *dbus.Signal
	busy    bool // it has the turn
}

func dial(ctx context.Context, o Options) (*bus, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	// The connection outlives ctx, so that the end of a transaction can be waited for.
	conn, err := dbus.ConnectSystemBus(dbus.WithSignalHandler(dbus.NewSequentialSignalHandler()))
	if err != nil {
		return nil, fmt.Errorf("there is no system bus: %w: install and start dbus", err)
	}
	b := &bus{Options: o, conn: conn, signals: make(chan *dbus.Signal, 64)}
	conn.Signal(b.signals)
	for _, match := range [][]dbus.MatchOption{
		{dbus.WithMatchSender(kitName), dbus.WithMatchInterface(kitTransaction)},
		{dbus.WithMatchSender("org.freedesktop.DBus"), dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, kitName)},
	} {
		if err := conn.AddMatchSignalContext(ctx, match...); err != nil {
			_ = conn.Close()
			return nil, err
		}
	}
	return b, nil
}

func (b *bus) close() { _ = b.conn.Close() }

// resolve asks for the packages of names, or of IDs. Unknown ones are left out.
func (b *bus) resolve(ctx context.Context, filters uint64, names []string) ([]packageID, error) {
	bare := make([]string, len(names))
	for i, name := range names {
		if strings.Contains(name, ";") {
			bare[i] = name
			continue
		}
		bare[i], _, _ = strings.Cut(name, ":")
	}
	var found []packageID
	err := b.transaction(ctx, "Resolve", func(s *dbus.Signal) {
		if text, ok := argument[string](s, 1); ok && s.Name == kitTransaction+".Package" {
			if id, ok := parseID(text); ok {
				info, _ := argument[uint32](s, 0)
				id.there = info == infoInstalled
				found = append(found, id)
			}
		}
	}, filters, bare)
	return found, err
}

// change runs a transaction that changes packages. It waits for the lock of the package
// manager before it, and again if somebody else was faster.
func (b *bus) change(ctx context.Context, method string, args ...any) error {
	for {
		if err := b.free(ctx); err != nil {
			return err
		}
		progress := Progress{Log: b.Log}
		err := b.transaction(ctx, method, func(s *dbus.Signal) {
			if s.Name != kitTransaction+".Package" {
				return
			}
			info, _ := argument[uint32](s, 0)
			text, _ := argument[string](s, 1)
			if id, ok := parseID(text); ok && infos[info] != "" {
				progress.Step(infos[info]+" "+id.name, -1)
			}
		}, args...)
		if e, ok := errors.AsType[*kitError](err); !ok || e.code != errorCannotGetLock || ctx.Err() != nil {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// free waits for dpkg's locks, where there are some that we may look at, and has dpkg
// complete what was interrupted: PackageKit 1.2.6 would wait for ever.
func (b *bus) free(ctx context.Context) error {
	if !HasDpkg() || os.Geteuid() != 0 {
		return nil
	}
	return newApt(b.Options).finish(ctx)
}

// transaction runs a method of a new transaction to its end; each is told of its signals.
// When ctx is done it is cancelled, unless packages are changed already: PackageKit would
// kill dpkg then. Its end is waited for.
func (b *bus) transaction(ctx context.Context, method string, each func(*dbus.Signal), args ...any) error {
	var path dbus.ObjectPath
	daemon := b.conn.Object(kitName, kitPath)
	if err := daemon.CallWithContext(ctx, kitName+".CreateTransaction", 0).Store(&path); err != nil {
		return b.failed(ctx, "starting a transaction", err)
	}
	object := b.conn.Object(kitName, path)
	hints := []string{"locale=C.UTF-8", "background=false", "interactive=false"}
	if err := object.CallWithContext(ctx, kitTransaction+".SetHints", 0, hints).Err; err != nil {
		return b.failed(ctx, "SetHints", err)
	}
	if err := object.CallWithContext(ctx, kitTransaction+"."+method, 0, args...).Err; err != nil {
		return b.failed(ctx, method, err)
	}
	done := ctx.Done()
	working := false
	var said error
	for {
		select {
		case <-done:
			done = nil
			if working || object.Call(kitTransaction+".Cancel", 0).Err != nil {
				b.Log.Info("waiting for PackageKit to complete what it has begun")
			}
		case s, ok := <-b.signals:
			switch {
			case !ok:
				return errors.New("the connection to the system bus was lost in the midst of a transaction of PackageKit")
			case s.Name == "org.freedesktop.DBus.NameOwnerChanged":
				if owner, ok := argument[string](s, 2); ok && owner == "" {
					return errors.New("PackageKit has ended in the midst of a transaction")
				}
			case s.Path != path:
			case s.Name == kitTransaction+".ErrorCode":
				code, _ := argument[uint32](s, 0)
				details, _ := argument[string](s, 1)
				said = &kitError{code, details}
			case s.Name == kitTransaction+".Finished":
				exit, _ := argument[uint32](s, 0)
				return b.finished(ctx, method, exit, said)
			default:
				working = working || works(s)
				if each != nil {
					each(s)
				}
			}
		}
	}
}

// works says that a signal tells of a package that is being changed.
func works(s *dbus.Signal) bool {
	info, ok := argument[uint32](s, 0)
	return ok && s.Name == kitTransaction+".Package" && info != infoDownloading && infos[info] != ""
}

// finished is what comes of the end of a transaction.
func (b *bus) finished(ctx context.Context, method string, exit uint32, said error) error {
	switch {
	case exit == exitSuccess:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case said != nil:
		return said
	}
	return fmt.Errorf("PackageKit: %s ended with %d and gave no reason", method, exit)
}

// failed is the error of a call over the bus.
func (b *bus) failed(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("PackageKit: %s: %w", what, err)
}

// argument returns the nth argument of a signal, if it is of that type.
func argument[T any](s *dbus.Signal, n int) (T, bool) {
	if n >= len(s.Body) {
		var none T
		return none, false
	}
	v, ok := s.Body[n].(T)
	return v, ok
}
