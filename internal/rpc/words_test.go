package rpc

import (
	"strings"
	"testing"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "activityfeed/proto/activityfeed/v1"
)

// No caller is shown a regular expression.
func TestPatternsHaveWords(t *testing.T) {
	t.Parallel()
	var look func(messages protoreflect.MessageDescriptors)
	look = func(messages protoreflect.MessageDescriptors) {
		for i := range messages.Len() {
			fields := messages.Get(i).Fields()
			for j := range fields.Len() {
				rules, ok := proto.GetExtension(fields.Get(j).Options(), validate.E_Field).(*validate.FieldRules)
				if !ok {
					continue
				}
				for _, rules := range []*validate.FieldRules{rules, rules.GetRepeated().GetItems()} {
					pattern := rules.GetString().GetPattern()
					if got := plainWords("does not match regex pattern `" + pattern + "`"); pattern != "" && strings.Contains(got, "regex") {
						t.Errorf("%s: %q has no words", fields.Get(j).FullName(), pattern)
					}
				}
			}
			look(messages.Get(i).Messages())
		}
	}
	for _, file := range []protoreflect.FileDescriptor{
		pb.File_activityfeed_v1_post_proto, pb.File_activityfeed_v1_graph_proto, pb.File_activityfeed_v1_feed_proto, pb.File_activityfeed_v1_notification_proto,
	} {
		look(file.Messages())
	}
}
