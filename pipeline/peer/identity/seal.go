package identity

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
)

// ErrNotForUs says that something was sealed for other hosts.
var ErrNotForUs = errors.New("it was sealed for other hosts, or for a key that this one no longer has")

// Seal encrypts plain with age, so that only those who hold the keys of the recipients can
// read it: see Identity.Recipient. It does not say who has sealed it.
func Seal(recipients []string, plain []byte) ([]byte, error) {
	if len(recipients) == 0 {
		return nil, errors.New("nobody is named who may read it")
	}
	to := make([]age.Recipient, len(recipients))
	for n, text := range recipients {
		r, err := age.ParseX25519Recipient(text)
		if err != nil {
			return nil, fmt.Errorf("%q is no public key of age: %w", text, err)
		}
		to[n] = r
	}
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, to...)
	if err != nil {
		return nil, err
	}
	_, err = w.Write(plain)
	if err := errors.Join(err, w.Close()); err != nil {
		return nil, err
	}
	return sealed.Bytes(), nil
}

// Open returns what was sealed for this host. It fails with ErrNotForUs if it was for
// others, and otherwise if it is not as it was sealed.
func (i *Identity) Open(sealed []byte) ([]byte, error) {
	r, err := age.Decrypt(bytes.NewReader(sealed), i.age)
	if _, ok := errors.AsType[*age.NoIdentityMatchError](err); ok {
		return nil, ErrNotForUs
	} else if err != nil {
		return nil, fmt.Errorf("it is not as it was sealed: %w", err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("it is not as it was sealed: %w", err)
	}
	return plain, nil
}
