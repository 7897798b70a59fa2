// Package conf reads configuration files: TOML, strictly. An unknown key, a key
// twice or a value of the wrong kind is an error that names the file and line.
package conf

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// MaxBytes bounds a file.
const MaxBytes = 1 << 20

// Read decodes the TOML file at path into v, a pointer to a struct with toml
// tags. A missing file is an error that matches fs.ErrNotExist.
func Read(path string, v any) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Size() > MaxBytes {
		return fmt.Errorf("%s: larger than %d bytes", path, MaxBytes)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := Parse(b, v); err != nil {
		return fmt.Errorf("%s:%w", path, err)
	}
	return nil
}

// Parse is Read for text. Its errors begin with a line number.
func Parse(b []byte, v any) error {
	err := toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields().Decode(v)
	var strict *toml.StrictMissingError
	if errors.As(err, &strict) && len(strict.Errors) > 0 {
		e := &strict.Errors[0]
		row, _ := e.Position()
		return fmt.Errorf("%d: unknown key %q", row, strings.Join(e.Key(), "."))
	}
	var dec *toml.DecodeError
	if errors.As(err, &dec) {
		row, _ := dec.Position()
		return fmt.Errorf("%d: %s", row, strings.TrimPrefix(dec.Error(), "toml: "))
	}
	if err != nil {
		return fmt.Errorf("0: %w", err)
	}
	return nil
}
