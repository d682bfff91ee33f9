package bunfile

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

type kind int

const (
	scalarKind kind = iota
	nullKind
	listKind
	mappingKind
)

func (k kind) String() string {
	switch k {
	case nullKind:
		return "null"
	case listKind:
		return "a list"
	case mappingKind:
		return "a mapping"
	}
	return "a single value"
}

// node is a YAML value free of anchors, aliases and merge keys. Scalars keep
// the text of the file: 1.10 stays "1.10", 010 stays "010".
type node struct {
	kind  kind
	pos   position
	text  string // of a scalar, and of a null as it was written
	plain bool   // a scalar without quotes
	// implicit is true for a null that is not written at all.
	implicit bool
	items    []*node
	pairs    []pair
}

type pair struct{ key, value *node }

// parseTree turns the text into one tree per document that is not empty.
func parseTree(src *source, trusted bool) (trees []*node, problems []problem) {
	// The parser panics on some texts; that is a syntax error to the user.
	defer func() {
		if recover() != nil {
			trees = nil
			problems = []problem{{message: "the YAML parser cannot read this text", hint: "check quotes, brackets and indentation"}}
		}
	}()
	tokens := lexer.Tokenize(src.text)
	if p := checkTokens(tokens, trusted); p != nil {
		return nil, []problem{*p}
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, []problem{syntaxProblem(src, err)}
	}
	b := &builder{src: src, budget: maxExpansion}
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		b.anchors = map[string]*node{}
		trees = append(trees, b.node(doc.Body))
	}
	return trees, b.problems
}

// syntaxProblem takes message and place from err, whose own text would show
// the neighbouring lines.
func syntaxProblem(src *source, err error) problem {
	p := problem{message: "the YAML parser cannot read this text"}
	var at interface {
		GetMessage() string
		GetToken() *token.Token
	}
	if errors.As(err, &at) {
		p.message = at.GetMessage()
		if tk := at.GetToken(); tk != nil && tk.Position != nil {
			p.pos = position{tk.Position.Line, tk.Position.Column}
		}
	}
	p.message, p.hint = explainSyntax(p.message)
	if p.message == secondColon && p.pos.line >= 1 && p.pos.line <= len(src.lines) {
		// The parser took the next line for a part of this one's value.
		if line := []rune(src.lines[p.pos.line-1]); strings.Count(string(line[min(p.pos.column, len(line)):]), ": ") == 0 {
			p.message, p.hint = "the next line is indented like a part of this value", "let keys of one mapping start in the same column"
		}
	}
	// The scanner's place for a tab is that of the line it saw last.
	if strings.HasPrefix(p.message, "a tab") {
		for i, line := range src.lines {
			if blanks := line[:len(line)-len(strings.TrimLeft(line, " \t"))]; i+1 >= p.pos.line && strings.Contains(blanks, "\t") {
				p.pos = position{i + 1, 1 + strings.IndexByte(line, '\t')}
				break
			}
		}
	}
	return p
}

const secondColon = `a second ": " in one line`

// explainSyntax says in the words of a .bun file what the parser says in those
// of YAML, where its message is not plain.
func explainSyntax(message string) (text, hint string) {
	switch {
	case strings.Contains(message, "'\t'"), strings.Contains(message, "a tab character"):
		return "a tab cannot indent", "YAML wants spaces"
	case strings.Contains(message, "could not find end character of"):
		return "this quote is not closed", ""
	case strings.Contains(message, "sequence end token ']'"):
		return `this "[" is not closed`, ""
	case strings.Contains(message, "flow mapping end token '}'"):
		return `this "{" is not closed`, ""
	case strings.Contains(message, "is a reserved character"):
		return message, "put the value in quotes"
	case strings.Contains(message, "mapping value is not allowed in this context"):
		return secondColon, "put the value in quotes, or the key in a line of its own"
	case strings.Contains(message, "value is not allowed in this context"), strings.Contains(message, "non-map value"):
		return "this does not fit here", `check the indentation, and that every key ends in ":"`
	case strings.Contains(message, "unexpected key name"):
		return "this is not a key", `check that the line before has its ":", and the indentation`
	case strings.Contains(message, "unknown escape character"):
		return message, `in double quotes, write \\ for a backslash, or use single quotes`
	}
	return message, ""
}

// maxExpansion bounds the text and the nodes that aliases may lead to, so
// that a small file stays a small Spec.
const maxExpansion = 4 * MaxSize

// builder makes nodes from the parser's tree in one walk in file order.
type builder struct {
	src      *source
	anchors  map[string]*node // nil while the anchor's own value is being built
	problems []problem
	budget   int
	seen     cursor
}

func (b *builder) report(pos position, message, hint string) {
	b.problems = append(b.problems, problem{pos: pos, message: message, hint: hint})
}

func (b *builder) node(n ast.Node) *node {
	switch n := n.(type) {
	case *ast.AnchorNode:
		name := n.Name.GetToken().Value
		b.anchors[name] = nil
		value := b.node(n.Value)
		b.anchors[name] = value
		return value
	case *ast.AliasNode:
		return b.alias(n)
	case *ast.MappingNode:
		out := &node{kind: mappingKind, pos: tokenPosition(n.GetToken())}
		b.pairs(out, n.Values)
		// The token of a block mapping is its first colon; people look at the key.
		if !n.IsFlowStyle && len(out.pairs) > 0 {
			out.pos = tokenPosition(n.Values[0].Key.GetToken())
		}
		return out
	case *ast.MappingValueNode:
		out := &node{kind: mappingKind, pos: tokenPosition(n.Key.GetToken())}
		b.pairs(out, []*ast.MappingValueNode{n})
		return out
	case *ast.SequenceNode:
		out := &node{kind: listKind, pos: tokenPosition(n.GetToken())}
		for _, value := range n.Values {
			out.items = append(out.items, b.node(value))
		}
		return out
	case *ast.NullNode:
		tk := n.GetToken()
		return &node{kind: nullKind, pos: tokenPosition(tk), text: tk.Value, implicit: tk.Type == token.ImplicitNullType}
	case *ast.LiteralNode:
		b.checkBlock(n.Start)
		return &node{pos: tokenPosition(n.Start), text: n.Value.Value}
	}
	return b.scalar(n.GetToken())
}

func (b *builder) scalar(tk *token.Token) *node {
	out := &node{pos: tokenPosition(tk), text: tk.Value}
	switch tk.Type {
	case token.DoubleQuoteType, token.SingleQuoteType:
		b.checkQuoted(out.pos)
	default:
		out.plain = true
		b.checkPlain(tk)
	}
	return out
}

func (b *builder) alias(n *ast.AliasNode) *node {
	pos, name := tokenPosition(n.Start), n.Value.GetToken().Value
	target, known := b.anchors[name]
	switch {
	case known && target == nil:
		b.report(pos, "the alias *"+plain(name)+" stands inside its own anchor", "write the value out")
	case !known:
		b.report(pos, "there is no anchor &"+plain(name)+" above", "")
	case b.spend(target):
		return target
	default:
		b.problems = append(b.problems, problem{pos: pos, cause: ErrTooLarge,
			message: fmt.Sprintf("aliases expand to more than %d bytes", maxExpansion), hint: "write fewer aliases of large values"})
	}
	return &node{kind: nullKind, pos: pos, text: brokenAlias}
}

// brokenAlias marks the value of an alias that was already reported.
const brokenAlias = "*"

// spend takes the weight of an aliased value off the budget and reports
// whether it was enough.
func (b *builder) spend(n *node) bool {
	b.budget -= 64 + len(n.text)
	if b.budget < 0 {
		return false
	}
	for _, item := range n.items {
		if !b.spend(item) {
			return false
		}
	}
	for _, p := range n.pairs {
		if !b.spend(p.key) || !b.spend(p.value) {
			return false
		}
	}
	return true
}

// pairs adds the keys of a mapping, merged ones last, so that own keys win
// (yaml.org/type/merge).
func (b *builder) pairs(out *node, values []*ast.MappingValueNode) {
	own := map[string]position{}
	var merges []*node
	for _, v := range values {
		if _, ok := v.Key.(*ast.MergeKeyNode); ok {
			merges = append(merges, b.node(v.Value))
			continue
		}
		key := b.node(v.Key)
		value := b.node(v.Value)
		if key.kind != scalarKind {
			b.report(key.pos, fmt.Sprintf("%s cannot be a key", key.kind), "put it in quotes, if it is meant as text")
			continue
		}
		if first, twice := own[key.text]; twice {
			b.report(key.pos, fmt.Sprintf("key %s is given twice; first on line %d", quote(key.text), first.line), "delete one of them")
			continue
		}
		own[key.text] = key.pos
		out.pairs = append(out.pairs, pair{key, value})
	}
	for _, m := range merges {
		b.merge(out, m, own)
	}
}

func (b *builder) merge(out, from *node, have map[string]position) {
	switch {
	case from.kind == listKind:
		for _, item := range from.items {
			if item.kind == listKind {
				b.report(item.pos, `"<<" wants an alias of a mapping, or a list of them, got a list in a list`, "")
				continue
			}
			b.merge(out, item, have)
		}
	case from.kind == mappingKind:
		for _, p := range from.pairs {
			if _, ok := have[p.key.text]; !ok {
				have[p.key.text] = p.key.pos
				out.pairs = append(out.pairs, p)
			}
		}
	case from.text != brokenAlias:
		b.report(from.pos, fmt.Sprintf(`"<<" wants an alias of a mapping, or a list of them, got %s`, from.kind), "")
	}
}
