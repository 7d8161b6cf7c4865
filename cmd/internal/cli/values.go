package cli

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks/params"
)

// duration is a flag of time: a bare number counts seconds.
type duration struct {
	time.Duration
	given bool
}

// Set implements pflag.Value.
func (d *duration) Set(s string) error {
	v, err := parseDuration(s)
	if err != nil {
		return err
	}
	d.Duration, d.given = v, true
	return nil
}

func parseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if seconds, numErr := strconv.ParseFloat(s, 64); numErr == nil {
		if math.IsNaN(seconds) || math.Abs(seconds) > math.MaxInt64/1e9 {
			return 0, fmt.Errorf("%q is too long a time", s)
		}
		d, err = time.Duration(math.Round(seconds*1e9)), nil
	}
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q is not a duration; give seconds, such as 5, or a number with a unit, such as 250ms or 2m", s)
	case d < 0:
		return 0, fmt.Errorf("%q is negative; give 0 or more", s)
	}
	return d, nil
}

// String implements pflag.Value: it is the default that help shows.
func (d *duration) String() string {
	if d.Duration == 0 {
		return ""
	}
	s := d.Duration.String()
	if rest, ok := strings.CutSuffix(s, "m0s"); ok {
		s = rest + "m"
	}
	return s
}

// Type implements pflag.Value.
func (*duration) Type() string { return "TIME" }

// fights is the flag that says what counts as a fight: a number of repairs in a time.
type fights struct{ pipeline.Fights }

// Set implements pflag.Value.
func (f *fights) Set(s string) error {
	if s == "off" {
		f.Fights = pipeline.Fights{Repairs: -1}
		return nil
	}
	repairs, window, ok := strings.Cut(s, "/")
	n, err := strconv.Atoi(repairs)
	d, timeErr := parseDuration(window)
	if !ok || err != nil || timeErr != nil || n < 2 || d == 0 {
		return fmt.Errorf("%q is not a number of repairs (2 or more) and a time, such as 20/10s, and not off", s)
	}
	f.Fights = pipeline.Fights{Repairs: n, Window: d}
	return nil
}

// String implements pflag.Value: it is the default that help shows.
func (f *fights) String() string {
	if f.Repairs <= 0 {
		return ""
	}
	return fmt.Sprintf("%d/%v", f.Repairs, f.Window)
}

// Type implements pflag.Value.
func (*fights) Type() string { return "N/TIME" }

// choice is a flag with a few allowed values.
type choice struct {
	value string
	among []string
}

// Set implements pflag.Value.
func (c *choice) Set(s string) error {
	if slices.Contains(c.among, s) {
		c.value = s
		return nil
	}
	err := fmt.Sprintf("%q is not one of %s", s, strings.Join(c.among, ", "))
	if near, ok := params.Nearest(s, c.among); ok {
		err += fmt.Sprintf("; did you mean %q?", near)
	}
	return errors.New(err)
}

// String implements pflag.Value.
func (c *choice) String() string { return c.value }

// Type implements pflag.Value.
func (*choice) Type() string { return "WORD" }

// count is a flag with a number that is not negative.
type count int

// Set implements pflag.Value.
func (n *count) Set(s string) error {
	v, err := strconv.Atoi(s)
	if err != nil || v < 0 {
		return fmt.Errorf("%q is not a number of 0 or more", s)
	}
	*n = count(v)
	return nil
}

// String implements pflag.Value.
func (n *count) String() string {
	if *n == 0 {
		return ""
	}
	return strconv.Itoa(int(*n))
}

// Type implements pflag.Value.
func (*count) Type() string { return "N" }

// complete makes shells offer the values of a flag.
func complete(cmd *cobra.Command, flag string, values ...string) {
	err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	if err != nil {
		panic(err) // there is no such flag
	}
}
