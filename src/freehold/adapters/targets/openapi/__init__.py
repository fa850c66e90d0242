"""APIs described by OpenAPI 3.0, 3.1 and Swagger 2.0, as tools.

`conversion.convert` makes tools of a document: reading -> references -> versions -> schemas ->
operations -> a plan for each. `client.OpenApiTargets` calls them: plan -> requests (styles, bodies)
-> answers.
"""
