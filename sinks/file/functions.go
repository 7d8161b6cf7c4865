package file

import (
	"crypto/sha512"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"unicode"
	"unicode/utf8"

	sprig "github.com/go-task/slim-sprig/v3"
)

// leftOut are the functions that templates usually have and ours have not: those whose
// result changes although the template and the data don't, since a file would be made
// anew at each look, and those that make keys, for the same reason.
var leftOut = []string{
	"ago", "now", "date", "dateInZone", "date_in_zone", "dateModify", "date_modify", "durationRound",
	"htmlDate", "htmlDateInZone", "mustDateModify", "must_date_modify",
	"env", "expandenv", "getHostByName",
	"randAlpha", "randAlphaNum", "randAscii", "randBytes", "randInt", "randNumeric", "shuffle", "uuidv4",
	"bcrypt", "buildCustomCert", "encryptAES", "genCA", "genCAWithKey", "genPrivateKey", "genSelfSignedCert",
	"genSelfSignedCertWithKey", "genSignedCert", "genSignedCertWithKey", "htpasswd",
}

// functions returns those of templates: the usual library, with the order of keys and
// values made certain, and what its slim version lacks. It takes the slim one because the
// other costs each start of a program, whether there is a template or not.
func functions() template.FuncMap {
	fs := sprig.TxtFuncMap()
	for _, name := range leftOut {
		delete(fs, name)
	}
	maps.Copy(fs, template.FuncMap{
		"keys": sortedKeys, "values": sortedValues,
		"b64dec": decoder(base64.StdEncoding.DecodeString), "b32dec": decoder(base32.StdEncoding.DecodeString),
		"sha512sum": func(s string) string { sum := sha512.Sum512([]byte(s)); return hex.EncodeToString(sum[:]) },
		"merge":     merge, "mergeOverwrite": mergeOverwrite, "deepCopy": func(v any) any { return deepCopy(v) },
		"addf": arithmetic(func(a, b float64) float64 { return a + b }), "subf": arithmetic(func(a, b float64) float64 { return a - b }),
		"mulf": arithmetic(func(a, b float64) float64 { return a * b }), "divf": arithmetic(func(a, b float64) float64 { return a / b }),
		"nospace": nospace, "initials": initials, "untitle": untitle, "swapcase": swapcase,
		"snakecase": func(s string) string { return strings.ToLower(strings.Join(words(s), "_")) },
		"kebabcase": func(s string) string { return strings.ToLower(strings.Join(words(s), "-")) },
		"camelcase": camelcase,
		"abbrev":    abbrev, "wrap": wrap, "wrapWith": wrapWith,
	})
	return fs
}

// sortedKeys lists the keys of each mapping in their order.
func sortedKeys(ms ...map[string]any) []string {
	keys := []string{}
	for _, m := range ms {
		keys = append(keys, slices.Sorted(maps.Keys(m))...)
	}
	return keys
}

// sortedValues lists the values of a mapping in the order of their keys.
func sortedValues(m map[string]any) []any {
	values := []any{}
	for _, key := range sortedKeys(m) {
		values = append(values, m[key])
	}
	return values
}

// decoder fails for what is not encoded, where the library makes the error the text.
func decoder(decode func(string) ([]byte, error)) func(string) (string, error) {
	return func(s string) (string, error) {
		b, err := decode(s)
		return string(b), err
	}
}

// merge puts what the mapping to lacks of the others into it, those first that come
// first, at all depths.
func merge(to map[string]any, from ...map[string]any) map[string]any {
	for _, m := range from {
		for key, value := range m {
			old, there := to[key]
			inner, both := old.(map[string]any)
			other, also := value.(map[string]any)
			switch {
			case !there:
				to[key] = deepCopy(value)
			case both && also:
				merge(inner, other)
			}
		}
	}
	return to
}

// mergeOverwrite puts the others into the mapping to, at all depths.
func mergeOverwrite(to map[string]any, from ...map[string]any) map[string]any {
	for _, m := range from {
		for key, value := range m {
			inner, both := to[key].(map[string]any)
			other, also := value.(map[string]any)
			if both && also {
				mergeOverwrite(inner, other)
			} else {
				to[key] = deepCopy(value)
			}
		}
	}
	return to
}

// deepCopy copies mappings and lists.
func deepCopy(v any) any {
	switch v := v.(type) {
	case map[string]any:
		c := make(map[string]any, len(v))
		for key, value := range v {
			c[key] = deepCopy(value)
		}
		return c
	case []any:
		c := make([]any, len(v))
		for i, value := range v {
			c[i] = deepCopy(value)
		}
		return c
	}
	return v
}

// arithmetic is an operation with any number of numbers, from the left.
func arithmetic(op func(a, b float64) float64) func(a any, more ...any) (float64, error) {
	return func(a any, more ...any) (float64, error) {
		result, err := float(a)
		for _, v := range more {
			var b float64
			if b, err = float(v); err != nil {
				break
			}
			result = op(result, b)
		}
		return result, err
	}
}

func float(v any) (float64, error) {
	switch r := reflect.ValueOf(v); {
	case r.CanInt():
		return float64(r.Int()), nil
	case r.CanUint():
		return float64(r.Uint()), nil
	case r.CanFloat():
		return r.Float(), nil
	case r.Kind() == reflect.String:
		f, err := strconv.ParseFloat(r.String(), 64)
		if err != nil {
			return 0, fmt.Errorf("%q is not a number", r.String())
		}
		return f, nil
	}
	return 0, fmt.Errorf("%v is not a number", v)
}

func nospace(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, s)
}

func initials(s string) string {
	var b strings.Builder
	for _, word := range strings.Fields(s) {
		r, _ := utf8.DecodeRuneInString(word)
		b.WriteRune(r)
	}
	return b.String()
}

// untitle makes the first letter of each word a small one.
func untitle(s string) string {
	before := ' '
	return strings.Map(func(r rune) rune {
		first := unicode.IsSpace(before)
		before = r
		if first {
			return unicode.ToLower(r)
		}
		return r
	}, s)
}

func swapcase(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsUpper(r) {
			return unicode.ToLower(r)
		}
		return unicode.ToUpper(r)
	}, s)
}

// words are those of a name such as http_server, http-server, HTTPServer or "HTTP server".
func words(s string) []string {
	var found []string
	for _, piece := range strings.FieldsFunc(s, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		runes, begin := []rune(piece), 0
		for i := 1; i < len(runes); i++ {
			up := unicode.IsUpper(runes[i])
			last := i+1 == len(runes) || !unicode.IsLower(runes[i+1])
			if up && (!unicode.IsUpper(runes[i-1]) || !last) {
				found = append(found, string(runes[begin:i]))
				begin = i
			}
		}
		found = append(found, string(runes[begin:]))
	}
	return found
}

func camelcase(s string) string {
	var b strings.Builder
	for _, word := range words(s) {
		r, n := utf8.DecodeRuneInString(word)
		b.WriteRune(unicode.ToUpper(r))
		b.WriteString(strings.ToLower(word[n:]))
	}
	return b.String()
}

// abbrev cuts s to a number of characters, the last three of which are dots.
func abbrev(most int, s string) string {
	runes := []rune(s)
	if most < 4 || len(runes) <= most {
		return s
	}
	return string(runes[:most-3]) + "..."
}

func wrap(width int, s string) string { return wrapWith(width, "\n", s) }

// wrapWith puts between in place of the blank before each word that would pass the width.
func wrapWith(width int, between, s string) string {
	var b strings.Builder
	at := 0
	for i, word := range strings.Fields(s) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case at+1+n > width:
			b.WriteString(between)
			at = 0
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += n
	}
	return b.String()
}
