package file

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
)

const permBits = 0o7777

// mode is what the parameter of that name asks for. The zero value asks for nothing.
type mode struct {
	text    string   // as written; empty if nothing is asked for
	octal   bool     // then bits are the mode
	bits    uint32   //
	clauses []clause // otherwise
}

// clause is one of the comma-separated parts of a symbolic mode.
type clause struct {
	who     uint32 // permission bits of those whom it concerns: 0700 for u
	op      byte   // '=', '+' or '-'
	bits    uint32 // rwx as 0 to 7
	special uint32 // set-id and sticky bits
	execute bool   // X: x for directories, and where somebody has it already
	copy    byte   // 'u', 'g' or 'o': bits are those of this one; 0 otherwise
}

// parseMode reads "0644", "644", "0o644" or what chmod(1) takes as a symbolic mode:
// "u=rwX,go=rX", "a-w", "g=u". As there, no letter before the operator stands for all.
func parseMode(text string) (mode, error) {
	if text == "" {
		return mode{}, nil
	}
	if text[0] >= '0' && text[0] <= '9' {
		bits, err := strconv.ParseUint(strings.TrimPrefix(strings.ToLower(text), "0o"), 8, 32)
		if err != nil || bits > permBits {
			return mode{}, fmt.Errorf("mode %q is not octal digits from 0000 to 7777", text)
		}
		return mode{text: text, octal: true, bits: uint32(bits)}, nil
	}
	m := mode{text: text}
	for part := range strings.SplitSeq(text, ",") {
		cs, err := parseClauses(part)
		if err != nil {
			return mode{}, fmt.Errorf("mode %q is neither octal, such as 0644, nor symbolic, such as u=rw,go=r: %w", text, err)
		}
		m.clauses = append(m.clauses, cs...)
	}
	if found, ok := m.settles(); !ok {
		return mode{}, fmt.Errorf("mode %q has no end: applied to %04o again and again it gives something else each time", text, found)
	}
	return m, nil
}

// parseClauses reads one part of a symbolic mode, which may hold several operators:
// "u=rw+X".
func parseClauses(part string) ([]clause, error) {
	rest := strings.TrimLeft(part, "ugoa")
	var who uint32
	for _, c := range part[:len(part)-len(rest)] {
		who |= map[rune]uint32{'u': 0o700, 'g': 0o070, 'o': 0o007, 'a': 0o777}[c]
	}
	if who == 0 {
		who = 0o777
	}
	if rest == "" {
		return nil, fmt.Errorf("%q lacks one of = + -", part)
	}
	var cs []clause
	for rest != "" {
		c := clause{who: who, op: rest[0]}
		if !strings.ContainsRune("=+-", rune(c.op)) {
			return nil, fmt.Errorf("%q is not one of = + - in %q", rest[:1], part)
		}
		rest = rest[1:]
		end := strings.IndexAny(rest, "=+-")
		if end < 0 {
			end = len(rest)
		}
		if err := c.permissions(rest[:end]); err != nil {
			return nil, fmt.Errorf("%w in %q", err, part)
		}
		rest = rest[end:]
		cs = append(cs, c)
	}
	return cs, nil
}

func (c *clause) permissions(perms string) error {
	if perms == "u" || perms == "g" || perms == "o" {
		c.copy = perms[0]
		return nil
	}
	for _, p := range perms {
		switch p {
		case 'r':
			c.bits |= 4
		case 'w':
			c.bits |= 2
		case 'x':
			c.bits |= 1
		case 'X':
			c.execute = true
		case 's':
			c.special |= setBits(c.who) & 0o6000
			if c.special&0o6000 == 0 {
				return fmt.Errorf("s is for u and g, not for o")
			}
		case 't':
			c.special |= setBits(c.who) & 0o1000
			if c.special&0o1000 == 0 {
				return fmt.Errorf("t is for o and a, not for u and g")
			}
		default:
			return fmt.Errorf("%q is not one of r w x X s t, or u g o alone,", p)
		}
	}
	return nil
}

// setBits are the set-user-ID, set-group-ID and sticky bits that go with who.
func setBits(who uint32) uint32 {
	return who&0o100<<5 | who&0o010<<7 | who&0o001<<9
}

// settles reports whether a second application never changes what the first has made,
// as "u=g,g=o" does; otherwise it gives a mode for which that fails.
func (m mode) settles() (uint32, bool) {
	depends := false
	for _, c := range m.clauses {
		depends = depends || c.copy != 0 || c.execute
	}
	if !depends || len(m.clauses) == 1 {
		return 0, true
	}
	for found := range uint32(permBits + 1) {
		for _, dir := range []bool{false, true} {
			if once := m.of(found, dir); m.of(once, dir) != once {
				return found, false
			}
		}
	}
	return 0, true
}

// of returns the twelve permission bits that a file shall have which has found.
func (m mode) of(found uint32, dir bool) uint32 {
	if m.octal {
		return m.bits
	}
	found &= permBits
	for _, c := range m.clauses {
		bits := c.bits
		switch c.copy {
		case 'u':
			bits = found >> 6 & 7
		case 'g':
			bits = found >> 3 & 7
		case 'o':
			bits = found & 7
		}
		if c.execute && (dir || found&0o111 != 0) {
			bits |= 1
		}
		set := bits * 0o111 & c.who
		set |= c.special
		switch c.op {
		case '+':
			found |= set
		case '-':
			found &^= set
		case '=':
			lose := c.who
			if !dir || c.special != 0 { // a directory keeps these bits unless they are named
				lose |= setBits(c.who)
			}
			found = found&^lose | set
		}
	}
	return found
}

// inTree is of for an entry of a directory that is managed with everything in it: an
// octal mode is that of files, and who may read a directory may then enter it, too.
func (m mode) inTree(found uint32, dir bool) uint32 {
	if m.octal && dir {
		return m.bits | m.bits&0o444>>2
	}
	return m.of(found, dir)
}

// umask is that of this process. There is no way to ask for it other than to set it,
// which would affect other threads, or this one.
var umask = sync.OnceValue(func() uint32 {
	status, _ := os.ReadFile("/proc/self/status")
	_, after, _ := strings.Cut(string(status), "\nUmask:")
	line, _, _ := strings.Cut(after, "\n")
	if bits, err := strconv.ParseUint(strings.TrimSpace(line), 8, 32); err == nil {
		return uint32(bits)
	}
	return 0o022
})
