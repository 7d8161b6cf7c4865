package password_test

import (
	"testing"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/password"
)

func TestOutputIsSecret(t *testing.T) {
	cfg := &password.Config{Length: 8}
	r, err := cfg.Build("x", sinks.Options{})
	if err != nil {
		t.Fatal(err)
	}
	out, err := r.CheckApply(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	outputs := cfg.Outputs()
	if len(outputs) != 1 || !outputs[0].Secret || outputs[0].Type != sinks.TypeString {
		t.Fatalf("outputs %+v, want one that is a secret string", outputs)
	}
	if text, ok := out.Values[outputs[0].Name].(string); !ok || len(text) != 8 || len(out.Values) != 1 {
		t.Errorf("it sends %d values, of which %s is a %T of %d characters", len(out.Values), outputs[0].Name, out.Values[outputs[0].Name], len(text))
	}
}
