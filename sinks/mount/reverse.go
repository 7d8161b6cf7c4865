package mount

import (
	"fmt"
	"strconv"

	"github.com/mgmtproject/mgmt/sinks"
)

var _ sinks.Reverser = (*Config)(nil)

// Reverse implements sinks.Reverser: what was mounted or listed no longer is, what was
// removed is there again, and an entry says what it has said.
func (c *Config) Reverse(was map[string]string) (sinks.Config, error) {
	if len(was) == 0 {
		return nil, nil
	}
	undo := *c
	others := len(was)
	if state, changed := was["state"]; changed {
		others--
		undo.State = c.before(state)
		if c.present() && others > 0 {
			return nil, fmt.Errorf("it was %s before, and of another device, type or options: that can't be had again", state)
		}
	}
	var err error
	for field, text := range was {
		switch field {
		case "device":
			undo.Device = text
		case "type":
			undo.Type = text
		case "options":
			undo.Options = split(text)
		case "freq":
			undo.Freq, err = number(text)
		case "passno":
			undo.PassNo, err = number(text)
		}
		if err != nil || text == sinks.Withheld {
			return nil, fmt.Errorf("its %s is not known any more", field)
		}
	}
	if !undo.present() {
		return &Config{State: undo.State}, nil
	}
	if len(undo.Options) == 0 {
		undo.Options = nil
	}
	return &undo, nil
}

// number reads a field that may be missing.
func number(text string) (int, error) {
	if text == "" {
		return 0, nil
	}
	return strconv.Atoi(text)
}

func (c *Config) present() bool {
	half := halves[c.State]
	return half.entry == yes || half.live == yes
}

// before is the state that undoes c, which has changed what was in the state found.
func (c *Config) before(found string) string {
	wants, was := halves[c.State], halves[found]
	// What was found and is one half stands for the lack of the other one.
	entry := wants.entry != either && (wants.entry == yes) != (was.entry == yes)
	live := wants.live != either && (wants.live == yes) != (was.live == yes)
	pick := func(now want, is, isnt string) string {
		if now == yes {
			return isnt
		}
		return is
	}
	switch {
	case entry && live:
		return pick(wants.live, exists, absent)
	case entry:
		return pick(wants.entry, listed, unlisted)
	case live:
		return pick(wants.live, mounted, unmounted)
	}
	return c.State
}
