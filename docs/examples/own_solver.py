# %% [markdown]
# # own_solver

# %%
print(1)
