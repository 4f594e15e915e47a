// Name patterns: how configurations pick parameters.
#pragma once
#include <string>

namespace fovea {

// Alternatives separated by commas; in each, '*' stands for any run of characters and '?' for one.
// "backbone.body.layer1.*,*.bias" matches the parameters of layer1 and every bias.
bool matches(const std::string& pattern, const std::string& name);

}  // namespace fovea
