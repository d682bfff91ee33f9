package bunfile

import (
	_ "embed"
	"slices"
)

//go:embed schema.json
var schemaJSON []byte

// Schema returns the JSON Schema (draft 2020-12) of one document of a .bun
// file, for editors. Whatever Parse takes, the schema takes; what it cannot
// express, such as a circle in depends_on, only Parse refuses.
func Schema() []byte { return slices.Clone(schemaJSON) }
